"""Which loss should I train with, on my data, and how sure can I be?"""

__version__ = "0.1.0"
