"""Check kinds, one module each: what may be written (`Params`), and how it is found out (`run`)."""
