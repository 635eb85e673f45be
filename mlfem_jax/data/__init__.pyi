from .batches import (
    Batch as Batch,
    batches_per_epoch as batches_per_epoch,
    open_dataset as open_dataset,
    read_batches as read_batches,
    read_examples as read_examples,
)
from .decode import (
    RECORDING_SUFFIXES as RECORDING_SUFFIXES,
    as_stored as as_stored,
    read_recording_file as read_recording_file,
)
from .example import (
    ExampleFormat as ExampleFormat,
    blank_example as blank_example,
    decode_photo as decode_photo,
    image_frames as image_frames,
    make_example as make_example,
    photo_record as photo_record,
    record_id as record_id,
)
from .maps import (
    MapCheck as MapCheck,
    MapFile as MapFile,
    check_maps as check_maps,
    find_maps as find_maps,
    read_map as read_map,
    write_map as write_map,
)
from .matching import recording_format as recording_format
from .prepared.draw import preview as preview
from .prepared.write import prepare as prepare
from .recording import RecordingFormat as RecordingFormat, windows as windows
from .releases.crowd import face_classes as face_classes
from .split import (
    Index as Index,
    Source as Source,
    fixation_totals as fixation_totals,
    fold_positions as fold_positions,
    k_folds as k_folds,
    looked_at as looked_at,
    scan as scan,
    split_positions as split_positions,
)
from .workers import Workers as Workers
