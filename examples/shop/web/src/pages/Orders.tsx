import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Orders() {
  const [orders, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/orders").then((body) => {
      console.log("orders loaded", body);
      if (live) {
        set(body.orders as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("orders left");
    };
  }, []);

  return (
    <section aria-label="Your orders">
      <h2>Your orders</h2>
      <ul>
        {orders.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
