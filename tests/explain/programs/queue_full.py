import asyncio


async def producer(queue):
    for number in range(3):
        await queue.put(number)
    print("all put")


async def main():
    queue = asyncio.Queue(maxsize=1)
    task = asyncio.create_task(producer(queue))
    for _ in range(3):
        await asyncio.sleep(1)
        print("got", await queue.get())
        queue.task_done()
    await queue.join()
    await task


asyncio.run(main())
