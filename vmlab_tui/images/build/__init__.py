"""From a recipe to a disk that boots by itself."""
