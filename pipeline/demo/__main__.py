"""`python -m bulkembed.pipeline.demo` is what `make run` starts."""

from bulkembed.pipeline.demo.demo import main

main()
