def sum_up(d):
    print("SUM", d)
