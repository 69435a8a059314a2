/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, events and captures, for streams.cpp and graphs.cpp. */
#ifndef HD_EMU_STREAMS_H
#define HD_EMU_STREAMS_H

#include "emu.h"

#include <deque>
#include <thread>

namespace hd_emu
{

struct Stream;
struct Capture;

/* What an event marks: work of the stream up to this position. */
struct Point {
	std::shared_ptr<Stream> stream;
	uint64_t position;
	Order order;
	double milliseconds;
};

/* Work that other work comes after; point: the event in between, if any. */
struct Wait {
	std::shared_ptr<Stream> stream;
	uint64_t position;
	std::shared_ptr<Point> point;
};

struct Item {
	uint64_t position;
	const char *what;
	Work work;
	WorkKind kind;
	std::vector<Wait> waits;
	Order issued;
};

struct Stream {
	int number;
	int device;
	bool blocking; /* waits for the default stream, and the default stream for it */
	std::deque<std::unique_ptr<Item>> queue;
	uint64_t submitted, done;
	Order order;
	std::unique_ptr<Context> context;

	std::shared_ptr<Capture> capture; /* the one that takes the stream's work in; NULL: none */
	std::vector<int> tips;            /* nodes that the next one comes after */
	int lane;
};

struct Event {
	bool timing;
	int device;
	std::shared_ptr<Point> point;     /* NULL: never recorded */
	std::shared_ptr<Capture> capture; /* recorded in this capture, after the nodes `tips` */
	std::vector<int> tips;
};

struct Capture {
	std::shared_ptr<Graph> graph;
	Stream *origin;
	cudaStreamCaptureMode mode;
	std::thread::id thread;
	bool spoiled, ended;
};

/* Everything that exists; index 0 of the streams is the default stream. */
extern std::vector<std::shared_ptr<Stream>> &streams;

/* The stream of a handle; NULL: there is none. NULL stands for the default stream. */
std::shared_ptr<Stream> find_stream(cudaStream_t handle);

/* Queues work behind the waits and, where streams are not lazy, runs it. Returns its position. */
uint64_t append(
        const std::shared_ptr<Stream> &stream, const char *what, Work work, WorkKind kind, std::vector<Wait> waits);

/* ---- graphs.cpp ---- */

/* Adds a node behind the stream's tips. */
cudaError_t capture_work(Stream *stream, const char *what, Work work, WorkKind kind);

/* What waiting for an event means where the stream or the event belongs to a capture; *handled says whether it did. */
cudaError_t capture_wait(const std::shared_ptr<Stream> &stream, Event *event, bool *handled);

/* Error of a call that must not be made on this stream, which also spoils its capture; else success. */
cudaError_t forbidden_on_capturing(Stream *stream);

size_t leaked_graphs();

} // namespace hd_emu

#endif
