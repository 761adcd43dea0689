"""From paths to a table of answers, however many there are: find, list, answer in order, write so that it can go on."""
