from .errors import naming_full_disk as naming_full_disk, printable as printable
from .folders import NOWHERE as NOWHERE, UNREADABLE as UNREADABLE, Walked as Walked, walk as walk
from .locks import remove_orphans as remove_orphans
from .outputs import (
    foreign as foreign,
    keep_record as keep_record,
    note_tree as note_tree,
    refuse_foreign as refuse_foreign,
    writing as writing,
)
from .whole import (
    own_checkpointer as own_checkpointer,
    replace_folder as replace_folder,
    replacing as replacing,
    restore_folder as restore_folder,
)
