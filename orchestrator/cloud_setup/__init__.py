"""What `elastic bootstrap` does in an AWS account: one CloudFormation stack, and in its bucket what controllers need.

Only the command line and the rehearsal import it. The template itself is `deploy/elastic.cloudformation.yaml`.
"""
