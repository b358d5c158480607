"""The stages of a round, one module each, in the order of the picture. Modules stay light: FireWorks imports them."""
