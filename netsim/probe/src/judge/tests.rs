//! The judge, over tables of what may be seen.
