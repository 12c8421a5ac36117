"""What users write down: the description of a refiner, and YAML files read safely, with line numbers and limits."""
