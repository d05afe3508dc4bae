"""`python -m pipeline`, in a checkout, is `bulkembed`."""

import runpy

runpy.run_module("bulkembed", run_name="__main__", alter_sys=True)
