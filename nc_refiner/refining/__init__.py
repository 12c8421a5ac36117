"""One refinement: what is asked, what will run, the run itself, and the record it leaves."""
