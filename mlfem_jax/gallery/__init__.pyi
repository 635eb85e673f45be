from .find import find_photos as find_photos
from .write import explain as explain
