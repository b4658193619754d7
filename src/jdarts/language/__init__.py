"""Language models of recurrent cells: search for a cell and training, each with its own command."""
