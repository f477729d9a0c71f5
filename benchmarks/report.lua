-- Makes wrk print its results in a form that a program can read. Times are in ms.
function done(summary, latency, requests)
   local errors = summary.errors
   local wrong = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      'REPORT {"requests": %d, "rate": %.1f, "p50": %.3f, "p99": %.3f, "errors": %d}\n',
      summary.requests, summary.requests / summary.duration * 1e6,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000, wrong))
end
