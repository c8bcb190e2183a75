"""Arrays and settings in, arrays and events out: no Qt, no napari, no image files."""
