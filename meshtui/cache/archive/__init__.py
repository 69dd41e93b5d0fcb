"""Archives of the model cache: an entry goes out, and comes in on another machine.

From the ground up: `names` (what a path may be), `volumes` and `streams` (bytes of a file in one
or several parts, packed or not), `members` (what an archive holds), `zip_reader`, `tar_reader`,
`folder_reader` behind `containers` (which knows them by their first bytes), `survey` (one pass over
the list), `reading` (what an import would do), `importing`; `packing`, `targets` and `exporting`
for the way out; `sums` for the checksums that travel beside.
"""
