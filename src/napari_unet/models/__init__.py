"""The base models that come with the package."""
