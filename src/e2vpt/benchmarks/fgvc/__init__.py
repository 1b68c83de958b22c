"""fgvc."""
