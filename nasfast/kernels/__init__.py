"""The compiled ops: typed functions over nasfast._C, which only this package imports."""
