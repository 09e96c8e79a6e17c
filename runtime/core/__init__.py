"""The pure core: values, events, commands, and the machine that turns one into the other. No I/O, no clock."""
