// The calls of the CUDA runtime that fewbit::cuda and its GPU test make, on the host: memory is memory, a stream runs what it is given at
// once or, while it is captured, writes it down, and a graph runs what was written down. Only tests see this header.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

enum cudaError_t { cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
inline constexpr unsigned cudaStreamNonBlocking = 1;

struct EmulatedGraph {
    std::vector<std::function<void()>> work;
};
struct EmulatedStream {
    std::unique_ptr<EmulatedGraph> captured;
};
using cudaStream_t = EmulatedStream*;
using cudaGraph_t = EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraph*;

struct cudaDeviceProp {
    char name[64];
    int major, minor, multiProcessorCount, l2CacheSize;
    std::size_t totalGlobalMem;
};

/// What every call on a stream does with its work.
inline cudaError_t emulated_enqueue(cudaStream_t stream, std::function<void()> work) {
    if (stream != nullptr && stream->captured)
        stream->captured->work.push_back(std::move(work));
    else
        work();
    return cudaSuccess;
}

inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorString(cudaError_t) { return "an error of the emulation"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* index) {
    *index = 0;
    return cudaSuccess;
}
/// Of the emulated device: 8, or what the environment says.
inline int emulated_major() {
    const char* const asked = std::getenv("FEWBIT_EMULATED_MAJOR");
    return asked == nullptr ? 8 : std::atoi(asked);
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int) {
    *out = {"the host, lane by lane", emulated_major(), 0, 3, 1 << 20, std::size_t{1} << 32};
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** out, std::size_t bytes) {
    *out = std::malloc(bytes);
    return *out == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}
inline cudaError_t cudaMemset(void* to, int byte, std::size_t bytes) {
    std::memset(to, byte, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int byte, std::size_t bytes, cudaStream_t stream) {
    return emulated_enqueue(stream, [=] { std::memset(to, byte, bytes); });
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream) {
    return emulated_enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                                     std::size_t width, std::size_t height, cudaMemcpyKind,
                                     cudaStream_t stream) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    return emulated_enqueue(stream, [=] {
        for (std::size_t r = 0; r < height; ++r)
            std::memcpy(static_cast<char*>(to) + r * to_pitch,
                        static_cast<const char*>(from) + r * from_pitch, width);
    });
}
inline cudaError_t cudaStreamCreate(cudaStream_t* out) {
    *out = new EmulatedStream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) { return cudaStreamCreate(out); }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream == nullptr) return cudaErrorInvalidValue;  // the default stream cannot be captured
    stream->captured = std::make_unique<EmulatedGraph>();
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
    if (stream == nullptr || !stream->captured) return cudaErrorInvalidValue;
    *out = stream->captured.release();
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
    *out = new EmulatedGraph(*graph);
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    for (const auto& work : graph->work) emulated_enqueue(stream, work);
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return cudaSuccess;
}
