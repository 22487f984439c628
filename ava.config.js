export default {
  files: ["dist/test/**/*.test.js"],
  timeout: "2m",
  concurrency: 2,
  // A worker thread that runs a data path and native modules both want a process of their own.
  workerThreads: false,
};
