"""Language models of recurrent cells: the search for a cell and its training, each a room with a command of its own."""
