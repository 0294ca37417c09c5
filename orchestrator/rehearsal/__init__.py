"""A cloud on this machine: the whole path of a job on EC2, without an account and for nothing.

    account        EC2, IAM and CloudFormation on loopback, by moto, whose faults are mended; refusals on demand
    seaweed        S3 on loopback, by SeaweedFS, which keeps conditions
    imds           what an instance asks for its identity, its credentials and an interruption's notice
    machine_room   what the account has launched really runs here: the user-data of each, as processes
    containers     workers with an image: by this machine's Docker engine, and gone with their machine
    bill           what it would have cost

Nothing of it outlives the process that began it, however that ends (`guard`). moto and SeaweedFS are the package's
extra `rehearse`. May import the controller, the fleets and all below; the command `elastic rehearse` calls it.
"""
