"""The workers of a generation as containers: one for each rank, by the Docker engine of the machine.

    workers      `ContainerWorkers`: what `equipment.Workers` asks for; a thread of its own speaks with the engine
    standing     what the agent asks of that thread, and how far it has come
    asking       the engine as that thread asks it: it may be away for a while
    image        the image: there already, or pulled
    ranks        what the container of a rank is given and refused; pure
    shown        what of the machine ranks see beside their run directory
    network      where the ranks of a generation meet; pure
    starting     making and starting them, and what it means when that is refused
    following    what a rank prints, into the files that the process runtime has too
    watching     the ranks from their start to their end
    ends         how they have ended
    guard        a process that removes an agent's containers when the agent has ended, however it did

The Docker SDK is imported where it is used: agents whose workers are processes do without.
"""
