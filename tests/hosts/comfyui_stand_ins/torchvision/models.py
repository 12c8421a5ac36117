"""No models: nothing in these tests builds one."""
