"""The panels inside napari. Nothing is imported here, so that menus appear at no cost."""
