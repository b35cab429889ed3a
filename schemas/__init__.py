"""What travels between the pipeline and the trainer: the frozen types and their forms on disk.

Read in the order of the data: `page`, `document`, `asked`, `media`, `sample`, `pair`, `video`, `shard`; `config` is the
strict reader of settings that both programs share. Nothing here imports anything but the standard library and pyarrow.
"""

SCHEMA_VERSION = 3
"""Version of every table and sample written; readers refuse another by name (DESIGN, errors for people)."""
