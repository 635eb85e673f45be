from .batch import run_batch as run_batch
from .memory import batch_bytes as batch_bytes
from .run import explain as explain, map_batches as map_batches
from .stream import BatchSize as BatchSize
