"""Commands that are not analyses, one file each: a module-level `COMMAND` is all that makes one."""
