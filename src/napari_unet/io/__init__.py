"""Files: images, masks, measurements, projects. No Qt."""
