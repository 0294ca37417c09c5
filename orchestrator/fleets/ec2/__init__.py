"""The EC2 fleet: instances of an AWS account that `elastic bootstrap` has set up.

`open` is what a controller has: the fleet of its store, once there is an account for it. `fleet` fulfils the protocol.
Pure are `launching` (what is asked of RunInstances), `user_data` (what an instance does with itself), `sightings` (what
DescribeInstances' answers mean), `errors` (what a failure means) and `offers` (where an instance may be had). `prices`,
`quotas` and `places` ask AWS, and remember its answers for a while.
"""
