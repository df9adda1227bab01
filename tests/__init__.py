"""Tests of nasfast, in the folders of its packages; what several of them share is in `tests.helpers`."""
