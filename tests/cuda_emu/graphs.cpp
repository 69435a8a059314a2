/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream capture into graphs, and their replay. A replay runs the nodes in an order (HD_EMU_ORDER) that keeps nothing
 * but the dependencies that were captured, so that an event that is missing between two streams is found.
 */
#include "streams.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace hd_emu
{

struct GraphHandle {
	std::shared_ptr<Graph> graph;
};

struct GraphExec {
	std::shared_ptr<Graph> graph;
	std::vector<std::unique_ptr<Context>> lanes;
	std::shared_ptr<Stream> last_stream; /* of the last launch: launches of one graph follow each other */
	uint64_t last_position;
};

struct ExecHandle {
	std::shared_ptr<GraphExec> exec;
};

static std::set<GraphHandle *> &graphs = *new std::set<GraphHandle *>;
static std::set<ExecHandle *> &execs = *new std::set<ExecHandle *>;
static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

size_t leaked_graphs()
{
	if (!graphs.empty() || !execs.empty())
		fprintf(stderr, "cuda_emu: never destroyed: %zu graphs, %zu executable graphs\n", graphs.size(),
		        execs.size());
	return graphs.size() + execs.size();
}

/* ---- capture ---- */

static void add_tips(std::vector<int> *tips, const std::vector<int> &more)
{
	for (int node : more)
		if (std::find(tips->begin(), tips->end(), node) == tips->end())
			tips->push_back(node);
}

cudaError_t capture_work(Stream *stream, const char *what, Work work, WorkKind kind)
{
	Capture *capture = stream->capture.get();
	if (capture->spoiled)
		return cudaErrorStreamCaptureInvalidated;
	capture->graph->nodes.push_back({what, std::move(work), kind, stream->tips, stream->lane});
	stream->tips = {static_cast<int>(capture->graph->nodes.size()) - 1};
	trace("stream %d: %s is captured as node %d", stream->number, what, stream->tips[0]);
	return cudaSuccess;
}

cudaError_t capture_wait(const std::shared_ptr<Stream> &stream, Event *event, bool *handled)
{
	*handled = false;
	if (!event->capture) {
		if (!stream->capture || !event->point)
			return cudaSuccess;
		stream->capture->spoiled = true;
		return cudaErrorStreamCaptureIsolation;
	}
	*handled = true;
	if (event->capture->ended)
		return cudaErrorInvalidValue;
	if (stream == streams[0]) {
		event->capture->spoiled = true;
		return cudaErrorStreamCaptureImplicit;
	}
	if (stream->capture && stream->capture != event->capture) {
		stream->capture->spoiled = event->capture->spoiled = true;
		return cudaErrorStreamCaptureMerge;
	}
	if (!stream->capture) {
		stream->capture = event->capture;
		stream->lane = event->capture->graph->lanes++;
		stream->tips.clear();
	}
	add_tips(&stream->tips, event->tips);
	return event->capture->spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t forbidden_on_capturing(Stream *stream)
{
	stream->capture->spoiled = true;
	return cudaErrorStreamCaptureUnsupported;
}

cudaError_t unsafe_while_capturing()
{
	if (thread_mode == cudaStreamCaptureModeRelaxed)
		return cudaSuccess;
	for (const std::shared_ptr<Stream> &s : streams) {
		if (!s->capture || s->capture->mode == cudaStreamCaptureModeRelaxed)
			continue;
		bool same_thread = s->capture->thread == std::this_thread::get_id();
		if (s->capture->mode == cudaStreamCaptureModeThreadLocal && !same_thread)
			continue;
		return forbidden_on_capturing(s.get());
	}
	return cudaSuccess;
}

/* Does everything that other streams brought into the capture come before the origin's end? */
static bool all_joined(const Capture *capture)
{
	const std::vector<GraphNode> &nodes = capture->graph->nodes;
	std::vector<bool> before(nodes.size(), false);
	std::vector<int> left = capture->origin->tips;
	while (!left.empty()) {
		size_t node = static_cast<size_t>(left.back());
		left.pop_back();
		if (before[node])
			continue;
		before[node] = true;
		left.insert(left.end(), nodes[node].after.begin(), nodes[node].after.end());
	}
	return std::find(before.begin(), before.end(), false) == before.end();
}

static void leave_capture(const std::shared_ptr<Capture> &capture)
{
	capture->ended = true;
	for (const std::shared_ptr<Stream> &s : streams)
		if (s->capture == capture) {
			s->capture.reset();
			s->tips.clear();
		}
}

/* ---- replay ---- */

/* Which of the nodes that may run comes next. */
static size_t choose(size_t count)
{
	if (settings.order == ORDER_FORWARD)
		return 0;
	return settings.order == ORDER_REVERSE ? count - 1 : random_below(static_cast<unsigned>(count));
}

static void run_node(const GraphNode &node, Context *lane, Order *start, std::vector<Order> *done, size_t index)
{
	std::function<void()> body = [&] {
		start->acquire();
		for (int before : node.after)
			(*done)[static_cast<size_t>(before)].acquire();
		node.work();
		(*done)[index].release();
	};
	if (node.kind == WORK_HOST)
		body();
	else
		lane->run(body);
}

static void replay(GraphExec *exec)
{
	const std::vector<GraphNode> &nodes = exec->graph->nodes;
	std::vector<Order> done(nodes.size());
	std::vector<bool> ran(nodes.size(), false);
	std::vector<size_t> ready;
	Order start;
	start.release();
	for (size_t count = 0; count < nodes.size(); count++) {
		ready.clear();
		for (size_t i = 0; i < nodes.size(); i++) {
			bool may_run = !ran[i];
			for (int before : nodes[i].after)
				may_run = may_run && ran[static_cast<size_t>(before)];
			if (may_run)
				ready.push_back(i);
		}
		size_t next = ready[choose(ready.size())];
		ran[next] = true;
		trace("graph: node %zu, %s, runs", next, nodes[next].what);
		run_node(nodes[next], exec->lanes[static_cast<size_t>(nodes[next].lane)].get(), &start, &done, next);
	}
	for (Order &order : done)
		order.acquire();
}

} // namespace hd_emu

using namespace hd_emu;

static GraphHandle *find_graph(cudaGraph_t handle)
{
	GraphHandle *graph = reinterpret_cast<GraphHandle *>(handle);
	return graphs.count(graph) ? graph : nullptr;
}

static ExecHandle *find_exec(cudaGraphExec_t handle)
{
	ExecHandle *exec = reinterpret_cast<ExecHandle *>(handle);
	return execs.count(exec) ? exec : nullptr;
}

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	if (stream == streams[0])
		return keep(cudaErrorStreamCaptureUnsupported);
	if (stream->capture)
		return keep(cudaErrorIllegalState);
	std::shared_ptr<Capture> capture = std::make_shared<Capture>();
	capture->graph = std::make_shared<Graph>();
	capture->graph->lanes = 1;
	capture->origin = stream.get();
	capture->mode = mode;
	capture->thread = std::this_thread::get_id();
	stream->capture = capture;
	stream->tips.clear();
	stream->lane = 0;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!graph)
		return keep(cudaErrorInvalidValue);
	*graph = nullptr;
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	std::shared_ptr<Capture> capture = stream->capture;
	if (!capture)
		return keep(cudaErrorIllegalState);
	if (capture->origin != stream.get()) {
		capture->spoiled = true;
		return keep(cudaErrorStreamCaptureUnmatched);
	}
	if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
		return keep(cudaErrorStreamCaptureWrongThread);
	bool joined = all_joined(capture.get());
	leave_capture(capture);
	if (capture->spoiled)
		return keep(cudaErrorStreamCaptureInvalidated);
	if (!joined)
		return keep(cudaErrorStreamCaptureUnjoined);
	if (injected_failure("cudaStreamEndCapture"))
		return keep(cudaErrorMemoryAllocation);
	GraphHandle *result = new GraphHandle{capture->graph};
	graphs.insert(result);
	*graph = reinterpret_cast<cudaGraph_t>(result);
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status)
{
	HD_EMU_ENTRY();
	std::shared_ptr<Stream> stream = find_stream(handle);
	if (!stream || !status)
		return keep(cudaErrorInvalidResourceHandle);
	*status = !stream->capture           ? cudaStreamCaptureStatusNone
	          : stream->capture->spoiled ? cudaStreamCaptureStatusInvalidated
	                                     : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
	std::swap(*mode, thread_mode);
	return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t *nodes, size_t *count)
{
	HD_EMU_ENTRY();
	GraphHandle *graph = find_graph(handle);
	if (!graph || !count || nodes) /* nodes have no handles here: only their number is known */
		return keep(graph && nodes ? cudaErrorNotSupported : cudaErrorInvalidValue);
	*count = graph->graph->nodes.size();
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *result, cudaGraph_t handle, unsigned long long)
{
	HD_EMU_ENTRY();
	GraphHandle *graph = find_graph(handle);
	if (!result || !graph)
		return keep(cudaErrorInvalidValue);
	if (injected_failure("cudaGraphInstantiate"))
		return keep(cudaErrorMemoryAllocation);
	std::shared_ptr<GraphExec> exec = std::make_shared<GraphExec>();
	exec->graph = graph->graph;
	for (int i = 0; i < graph->graph->lanes; i++) {
		exec->lanes.emplace_back(new Context);
		exec->lanes.back()->set_name("branch of a graph");
	}
	ExecHandle *made = new ExecHandle{exec};
	execs.insert(made);
	*result = reinterpret_cast<cudaGraphExec_t>(made);
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *result, cudaGraph_t graph, unsigned long long flags)
{
	return cudaGraphInstantiate(result, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t handle, cudaStream_t)
{
	HD_EMU_ENTRY();
	return find_exec(handle) ? cudaSuccess : keep(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle)
{
	HD_EMU_ENTRY();
	ExecHandle *found = find_exec(handle);
	std::shared_ptr<Stream> stream = find_stream(stream_handle);
	if (!found)
		return keep(cudaErrorInvalidValue);
	if (!stream)
		return keep(cudaErrorInvalidResourceHandle);
	std::shared_ptr<GraphExec> exec = found->exec;
	if (stream->capture || stream == streams[0])
		return submit(stream_handle, "graph", [exec] { replay(exec.get()); });
	std::vector<Wait> waits;
	if (exec->last_stream && exec->last_stream != stream)
		waits.push_back({exec->last_stream, exec->last_position, nullptr});
	exec->last_stream = stream;
	exec->last_position = stream->submitted + 1;
	append(
	        stream, "graph", [exec] { replay(exec.get()); }, WORK_DEVICE, waits);
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle)
{
	HD_EMU_ENTRY();
	ExecHandle *found = find_exec(handle);
	if (!found)
		return keep(cudaErrorInvalidValue);
	execs.erase(found);
	clean_up([&] { delete found; });
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle)
{
	HD_EMU_ENTRY();
	GraphHandle *found = find_graph(handle);
	if (!found)
		return keep(cudaErrorInvalidValue);
	graphs.erase(found);
	clean_up([&] { delete found; });
	return cudaSuccess;
}
}
