from .chunks import (
    chunk_size as chunk_size,
    images_at_once as images_at_once,
    map_chunks as map_chunks,
    over_chunks as over_chunks,
    sum_chunks as sum_chunks,
)
from .devices import (
    Devices as Devices,
    batch_sharding as batch_sharding,
    chosen_devices as chosen_devices,
    on_host as on_host,
    over_shares as over_shares,
    put_batch as put_batch,
    put_state as put_state,
    replicate as replicate,
    split as split,
    state_sharding as state_sharding,
)
from .processes import Processes as Processes, is_first as is_first, start as start
