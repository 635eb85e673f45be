from .batch import Program as Program, forward_program as forward_program, run_batch as run_batch
from .memory import batch_bytes as batch_bytes
from .run import explain as explain, map_batches as map_batches
from .stream import BatchSize as BatchSize, images_in_batch as images_in_batch, run_batches as run_batches
