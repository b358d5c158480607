"""Does feedback pay? Whole campaigns at equal verification budget, with and without; see ``__main__``."""
