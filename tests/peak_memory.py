"""Python source for a process of its own that measures by how much its memory grows.

`start_watching()` before and `grown()` after: bytes of resident memory at the peak in between.
"""

WATCH = """
import sys, threading, time, psutil, torch
process, peak, done = psutil.Process(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.001)
def start_watching():
    global start, thread
    start = process.memory_info().rss
    thread = threading.Thread(target=watch)
    thread.start()
def grown():
    global done
    done = True
    thread.join()
    return peak - start
"""
