"""The paper's tables on the embedded model: what is run, what it says, and the document it becomes."""
