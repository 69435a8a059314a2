/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams and events. A stream is a queue of work. Without HD_EMU_LAZY work runs when it is submitted; with it, only
 * when somebody waits for it, and then no more than stream order and events demand (HD_EMU_ORDER=random:N mixes the
 * streams), so that a missing synchronisation gives a wrong result.
 */
#include "streams.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <set>
#include <unistd.h>

namespace hd_emu
{

/* Of destroyed streams: a logical thread is expensive, above all those that its kernels have. */
static std::vector<std::unique_ptr<Context>> &idle_contexts = *new std::vector<std::unique_ptr<Context>>;

static std::unique_ptr<Context> take_context()
{
	if (idle_contexts.empty())
		return std::unique_ptr<Context>(new Context);
	std::unique_ptr<Context> context = std::move(idle_contexts.back());
	idle_contexts.pop_back();
	return context;
}

static std::shared_ptr<Stream> new_stream(bool blocking)
{
	static int count;
	std::shared_ptr<Stream> stream = std::make_shared<Stream>();
	char name[32];
	stream->number = count++;
	stream->device = current_device();
	stream->blocking = blocking;
	snprintf(name, sizeof name, "stream %d", stream->number);
	stream->context = take_context();
	stream->context->set_name(name);
	return stream;
}

std::vector<std::shared_ptr<Stream>> &streams = *new std::vector<std::shared_ptr<Stream>>;
static std::set<Event *> &events = *new std::set<Event *>;

double milliseconds()
{
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

static std::shared_ptr<Stream> default_stream()
{
	if (streams.empty())
		streams.push_back(new_stream(false));
	return streams[0];
}

static bool names_default(cudaStream_t handle)
{
	return !handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread;
}

std::shared_ptr<Stream> find_stream(cudaStream_t handle)
{
	std::shared_ptr<Stream> first = default_stream();
	if (names_default(handle))
		return first;
	for (const std::shared_ptr<Stream> &s : streams)
		if (reinterpret_cast<cudaStream_t>(s.get()) == handle)
			return s;
	return nullptr;
}

int device_of(cudaStream_t handle)
{
	std::shared_ptr<Stream> stream = find_stream(handle);
	return names_default(handle) || !stream ? current_device() : stream->device;
}

/* ---- running ---- */

static void perform(Stream *stream, std::unique_ptr<Item> item)
{
	trace("stream %d: %s runs", stream->number, item->what);
	std::function<void()> body = [&] {
		item->issued.acquire();
		stream->order.acquire();
		for (const Wait &wait : item->waits)
			(wait.point ? &wait.point->order : &wait.stream->order)->acquire();
		item->work();
		stream->order.release();
	};
	if (item->kind == WORK_HOST) {
		body();
	} else {
		OpenMemory open;
		stream->context->run(body);
	}
	stream->done = item->position;
	clean_up([&] { item.reset(); });
}

/* Runs one piece of work: the first of the stream or, where that waits, one that it waits for. */
static void step(Stream *stream)
{
	for (const Wait &wait : stream->queue.front()->waits) {
		if (wait.stream->done < wait.position) {
			step(wait.stream.get());
			return;
		}
	}
	std::unique_ptr<Item> item = std::move(stream->queue.front());
	stream->queue.pop_front();
	perform(stream, std::move(item));
}

static Stream *other_busy_stream(const Stream *stream)
{
	std::vector<Stream *> busy;
	for (const std::shared_ptr<Stream> &s : streams)
		if (s.get() != stream && !s->queue.empty())
			busy.push_back(s.get());
	return busy.empty() ? nullptr : busy[random_below(static_cast<unsigned>(busy.size()))];
}

static void run_until(Stream *stream, uint64_t position)
{
	while (stream->done < position) {
		Stream *other = nullptr;
		if (settings.lazy && settings.order == ORDER_RANDOM && random_below(2))
			other = other_busy_stream(stream);
		step(other ? other : stream);
	}
}

/* The host waits for the stream. */
static void synchronize(Stream *stream)
{
	run_until(stream, stream->submitted);
	stream->order.acquire();
}

void drain(cudaStream_t handle)
{
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (stream && !stream->capture)
		synchronize(stream.get());
}

void drain_all()
{
	size_t count = streams.size();
	for (size_t k = 0; k < count; k++)
		synchronize(streams[settings.order == ORDER_REVERSE ? count - 1 - k : k].get());
}

uint64_t append(
        const std::shared_ptr<Stream> &stream, const char *what, Work work, WorkKind kind, std::vector<Wait> waits)
{
	std::unique_ptr<Item> item(new Item());
	uint64_t position = ++stream->submitted;
	item->position = position;
	item->what = what;
	item->work = std::move(work);
	item->kind = kind;
	item->waits = std::move(waits);
	if (stream == default_stream()) {
		for (const std::shared_ptr<Stream> &other : streams)
			if (other->blocking)
				item->waits.push_back({other, other->submitted, nullptr});
	} else if (stream->blocking) {
		item->waits.push_back({default_stream(), default_stream()->submitted, nullptr});
	}
	item->issued.release();
	trace("stream %d: %s is queued", stream->number, what);
	stream->queue.push_back(std::move(item));
	if (!settings.lazy)
		run_until(stream.get(), position);
	return position;
}

cudaError_t submit(cudaStream_t handle, const char *what, Work work, WorkKind kind)
{
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	if (stream->capture)
		return keep(capture_work(stream.get(), what, std::move(work), kind));
	if (names_default(handle)) {
		if (settings.forbid_default_stream)
			fail("%s on the default stream, which HD_EMU_DEFAULT_STREAM forbids", what);
		for (const std::shared_ptr<Stream> &s : streams)
			if (s->capture && s->blocking) {
				s->capture->spoiled = true;
				return keep(cudaErrorStreamCaptureImplicit);
			}
	}
	append(stream, what, std::move(work), kind, {});
	return cudaSuccess;
}

static Event *find_event(cudaEvent_t handle)
{
	Event *event = reinterpret_cast<Event *>(handle);
	return events.count(event) ? event : nullptr;
}

static bool is_done(const Event *event)
{
	return !event->point || event->point->stream->done >= event->point->position;
}

/* Things that were never destroyed, at the end of the program. */
static void report_leaks()
{
	size_t count = leaked_memory() + leaked_graphs() + events.size();
	if (!events.empty())
		fprintf(stderr, "cuda_emu: never destroyed: %zu events\n", events.size());
	for (size_t i = 1; i < streams.size(); i++, count++)
		fprintf(stderr, "cuda_emu: never destroyed: stream %d\n", streams[i]->number);
	if (!count)
		return;
	fprintf(stderr, "cuda_emu: ERROR: %zu things of the device were never freed\n", count);
	fflush(nullptr);
	_exit(EXIT_REPORT);
}

static const int leaks_at_exit = settings.check_leaks ? atexit(report_leaks) : 0;

} // namespace hd_emu

using namespace hd_emu;

extern "C" {

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags)
{
	HD_EMU_ENTRY();
	if (!handle || (flags & ~static_cast<unsigned>(cudaStreamNonBlocking)))
		return keep(cudaErrorInvalidValue);
	if (injected_failure("cudaStreamCreate"))
		return keep(cudaErrorMemoryAllocation);
	default_stream();
	streams.push_back(new_stream(!(flags & cudaStreamNonBlocking)));
	*handle = reinterpret_cast<cudaStream_t>(streams.back().get());
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *handle)
{
	return cudaStreamCreateWithFlags(handle, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *handle, unsigned flags, int)
{
	return cudaStreamCreateWithFlags(handle, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	*least = 0;
	*greatest = -5;
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream || names_default(handle))
		return keep(cudaErrorInvalidResourceHandle);
	if (stream->capture)
		return keep(forbidden_on_capturing(stream.get()));
	run_until(stream.get(), stream->submitted);
	streams.erase(std::find(streams.begin(), streams.end(), stream));
	idle_contexts.push_back(std::move(stream->context));
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	if (stream->capture)
		return keep(forbidden_on_capturing(stream.get()));
	synchronize(stream.get());
	return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	if (stream->capture)
		return keep(forbidden_on_capturing(stream.get()));
	if (stream->done < stream->submitted) {
		step(stream.get()); /* or a program that asks until it is done would ask for ever */
		return cudaErrorNotReady;
	}
	stream->order.acquire();
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
	HD_EMU_ENTRY();
	cudaError_t error = unsafe_while_capturing();
	if (error)
		return keep(error);
	drain_all();
	return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void *data)
{
	HD_EMU_ENTRY();
	if (!function)
		return keep(cudaErrorInvalidValue);
	return submit(
	        handle, "host function",
	        [=] {
		        in_host_function = true;
		        function(data);
		        in_host_function = false;
	        },
	        WORK_HOST);
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned flags)
{
	HD_EMU_ENTRY();
	if (!handle)
		return keep(cudaErrorInvalidValue);
	if (injected_failure("cudaEventCreate"))
		return keep(cudaErrorMemoryAllocation);
	Event *event = new Event();
	event->timing = !(flags & cudaEventDisableTiming);
	event->device = current_device();
	events.insert(event);
	*handle = reinterpret_cast<cudaEvent_t>(event);
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *handle)
{
	return cudaEventCreateWithFlags(handle, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
	HD_EMU_ENTRY();
	Event *event = find_event(handle);
	if (!event)
		return keep(cudaErrorInvalidResourceHandle);
	events.erase(event);
	delete event;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle)
{
	HD_EMU_ENTRY();
	Event *event = find_event(handle);
	std::shared_ptr<Stream> stream = find_stream(stream_handle);
	if (!event || !stream || event->device != device_of(stream_handle))
		return keep(cudaErrorInvalidResourceHandle);
	if (stream->capture) {
		event->capture = stream->capture;
		event->tips = stream->tips;
		event->point.reset();
		return keep(stream->capture->spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
	}
	if (names_default(stream_handle) && settings.forbid_default_stream)
		fail("an event is recorded on the default stream, which HD_EMU_DEFAULT_STREAM forbids");
	std::shared_ptr<Point> point = std::make_shared<Point>();
	point->stream = stream;
	point->position = stream->submitted + 1;
	event->point = point;
	event->capture.reset();
	append(stream, "event",
	        [point] {
		        point->milliseconds = milliseconds();
		        point->order.release();
	        },
	        WORK_DEVICE, {});
	return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned flags)
{
	return flags ? keep(cudaErrorNotSupported) : cudaEventRecord(handle, stream);
}

/* What host code may not do with an event that belongs to a capture, or while one is running. */
static cudaError_t captured_event(const Event *event)
{
	if (!event->capture)
		return unsafe_while_capturing();
	event->capture->spoiled = true;
	return cudaErrorCapturedEvent;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
	HD_EMU_ENTRY();
	Event *event = find_event(handle);
	if (!event)
		return keep(cudaErrorInvalidResourceHandle);
	cudaError_t error = captured_event(event);
	if (error || !event->point)
		return keep(error);
	run_until(event->point->stream.get(), event->point->position);
	event->point->order.acquire();
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t handle)
{
	HD_EMU_ENTRY();
	Event *event = find_event(handle);
	if (!event)
		return keep(cudaErrorInvalidResourceHandle);
	cudaError_t error = captured_event(event);
	if (error)
		return keep(error);
	if (!is_done(event)) {
		step(event->point->stream.get());
		return cudaErrorNotReady;
	}
	if (event->point)
		event->point->order.acquire();
	return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *elapsed, cudaEvent_t from, cudaEvent_t to)
{
	HD_EMU_ENTRY();
	Event *begin = find_event(from), *end = find_event(to);
	if (!begin || !end || !begin->timing || !end->timing || !begin->point || !end->point)
		return keep(cudaErrorInvalidResourceHandle);
	if (!is_done(begin) || !is_done(end))
		return cudaErrorNotReady;
	*elapsed = static_cast<float>(end->point->milliseconds - begin->point->milliseconds);
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned flags)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	Event *event = find_event(event_handle);
	if (!stream || !event)
		return keep(cudaErrorInvalidResourceHandle);
	if (flags)
		return keep(cudaErrorNotSupported);
	bool handled = false;
	cudaError_t error = capture_wait(stream, event, &handled);
	if (error || handled || !event->point)
		return keep(error);
	if (names_default(handle) && settings.forbid_default_stream)
		fail("the default stream waits for an event, and HD_EMU_DEFAULT_STREAM forbids it");
	std::shared_ptr<Point> point = event->point;
	append(stream, "wait", [] {}, WORK_DEVICE, {{point->stream, point->position, point}});
	return cudaSuccess;
}
}
