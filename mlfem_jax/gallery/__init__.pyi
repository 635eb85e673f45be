from .find import find_photos as find_photos
from .pictures import (
    draw_film as draw_film,
    draw_plane as draw_plane,
    draw_signal as draw_signal,
    draw_slices as draw_slices,
    write_film as write_film,
)
from .write import explain as explain
