export default {
  files: ["dist/test/**/*.test.js"],
  // Longer than tests set for themselves, compose aside: Ava forgets its own when it falls into one of those.
  timeout: "6m",
  concurrency: 2,
  // A worker thread that runs a data path and native modules both want a process of their own.
  workerThreads: false,
};
