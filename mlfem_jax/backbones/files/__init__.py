"""Weight files of every format that is read, without executing what they hold."""
