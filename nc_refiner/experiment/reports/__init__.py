"""What people read: conclusions in words, tables, plots, pages."""
