"""The pool: machines of one's own, whose hosts take orders from the bucket and run agents as the local fleet does.

- `records`: what stands in the bucket: the orders, which controllers write, and each machine's report
- `room`: which machine an instance is given, and what of it; pure
- `fleet`: the controller's side; `stillness`: whether a machine still speaks, by the reader's own clock
- `host`: the machine's side; `joining`: how it takes its name, and the process around it; `equipment`: what it has
- `listing`: the pool as a person sees it; `owned`: what runs in it, whoever knows of it

All orders are one document. So whoever writes one has seen all others: two controllers cannot give away the same GPU,
nor start one instance on two machines, and there is no moment between choosing a machine and ordering from it.
"""
