from .errors import naming_full_disk as naming_full_disk, printable as printable
from .folders import NOWHERE as NOWHERE, UNREADABLE as UNREADABLE, Walked as Walked, walk as walk
from .hdf5_file import open_hdf5 as open_hdf5, read_datasets as read_datasets, read_names as read_names
from .limits import (
    DEPTH as DEPTH,
    ENTRIES as ENTRIES,
    HEADER_BYTES as HEADER_BYTES,
    OPCODES as OPCODES,
    allowance as allowance,
    check_sizes as check_sizes,
    fault as fault,
    is_floating as is_floating,
    naming as naming,
    read_json as read_json,
    shown as shown,
)
from .locks import remove_orphans as remove_orphans
from .npz_file import npz_shapes as npz_shapes, read_npz_array as read_npz_array, read_npz_file as read_npz_file
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
from .zip_file import open_zip as open_zip
