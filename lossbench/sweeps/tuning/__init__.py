"""Equal tuning: the same search for every loss, its best setting on fresh seeds, in an order that luck cannot bend."""
