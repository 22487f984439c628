export default {
  files: ["dist/test/**/*.test.js"],
  // How long none of the tests may end. No test sets one for itself: Ava forgets this one when it falls into one of those.
  timeout: "20m",
  concurrency: 2,
  // A worker thread that runs a data path and native modules both want a process of their own.
  workerThreads: false,
};
