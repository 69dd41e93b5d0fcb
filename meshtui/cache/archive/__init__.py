"""Archives of the model cache: an entry goes out, and comes in on another machine.

From the ground up: `names` (what a path may be), `volumes` and `streams` (the bytes of a file in
one or several parts, packed or not), `members` (what an archive holds) with `zip_reader`,
`tar_reader` and `folder_reader`, behind `containers`, which knows them by their first bytes.
`layout` (what a path is for), `sums` (checksums that travel along), `judging` (what is to be said)
and `survey` (one pass over the list) lead to `reading`, which plans, and `importing`. The way out
is `targets` and `folder_target` (files under hidden names), `packing` (containers), `exporting`.
"""
