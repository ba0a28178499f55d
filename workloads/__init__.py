"""What can run: training and inference workloads, and the traffic they are driven with.

Stands on ``results`` alone. How a workload is placed and started is the harness's business; a
workload says *what* to start (a value) and how to read what came back.
"""
